"""What a platform supplies: the whole porting contract on one page.

Must stay true: the agent reaches clock, randomness, network, power and storage through the object described
here and through nothing else, so that one agent runs on a board, on the virtual board and in a plain test.

A port is a class `Port`: on a board that of `dormouse.ports.<sys.platform>`, elsewhere that of posix.py, or one that is
given to run(). On a board boot.py comes first: it lets the owner in, sleeps what is still owed, and makes the port with
the cause of the boot, with a function that the port calls once the wake has come as far as its end, and with the slots.

    config()                bytes of config.json and of secrets.json, None for one that is missing
    file(name)              bytes of a file beside config.json, None for one that is missing
    start(config)           the checked configuration, before anything else needs it: reads the battery
    ms()                    int, milliseconds since this boot; never wraps within a wake
    pause(ms)               wait that long
    time()                  int, Unix seconds, or None while the clock is not known
    clock()                 where time() is from: "sntp", in this wake | "kept" | "estimated" from planned sleep | None
    pretend(when)           have TLS compare dates with `when` (as RTC.datetime takes it) while time() stays None;
                            False where the clock already says so or can't be set
    shaking(begins)         TLS's handshake begins or, where it went well, has ended
    random(n)               n random bytes, fresh after every boot
    cause()                 "power" | "reset" | "watchdog" | "timer" | "pin" | "unknown"
    join(config, secrets, deadline)   bring the network up by `deadline` (in ms()), or raise LinkError with the stage
                            `ap` (no access point), `password`, `address` (none given) or `join`; no wait where it is up
    forget()                the wake failed after joining: what was remembered of the network may be wrong
    rssi()                  int, dBm, or None
    battery()               float, volts, or None; read before the radio starts
    arm(ms)                 start the watchdog, where there is one: it bites when feed() has not been called for `ms`
    feed()                  the wake has made progress. Called again, arm() changes the time
    free()                  int, free heap in bytes, or None
    firmware()              str, the interpreter and its version
    blink(times)            on the LED that the configuration names, if any
    emit(line)              one log line to the console
    reset()                 end the wake and boot at once; does not return on a board
    sleep(ms)               end the wake: radio off, sleep `ms` or until the wake pin, boot again; does not
                            return on a board
    slots                   guard.Slots, or None where nothing chooses between two
    storage                 the agent's folder on flash, a Storage; with `type(storage)(folder)` that of another folder:

        read(name)              bytes of the whole file, or None where there is none
        chunks(name, most=256)  iterator over the file in pieces of at most so many bytes (nothing where there is none)
        size(name)              int, bytes; 0 where there is none
        replace(name, data)     the file holds all of `data` (bytes, or an iterator of pieces), or what it held
                                before: never a mixture, never nothing
        append(name, pieces)    an iterable of bytes; durable when it returns; after a power cut the file may hold a
                                part of them
        remove(name)            no error where there is none
        names()                 list of file names
        free()                  int, bytes that the file system has left
        erases                  int: blocks of flash that writes have cost since the start, an estimate
        inline                  int: a file of at most so many bytes is rewritten without an erase (littlefs)

    Made on a file system that can't keep these promises, it raises ConfigError (FAT has no atomic rename).
    All of Storage raise StorageError, with the file system's reason, and lose nothing that was there before.
"""
