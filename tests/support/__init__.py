"""What tests share: brokers and devices, real and made to order, and what a test needs from the machine."""
