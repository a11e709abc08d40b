"""What the devices of this process really did: how often each command took effect."""

from collections import Counter

done: Counter[tuple[str, int]] = Counter()
