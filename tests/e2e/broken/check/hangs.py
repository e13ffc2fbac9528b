import time

#! module-timeout | 3 seconds
time.sleep(60)
