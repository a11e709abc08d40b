import dormouse

dormouse.run("app")
