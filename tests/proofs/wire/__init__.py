"""Networks that hurt, on real TCP: a device and a broker in two network namespaces, and what happens between them."""
