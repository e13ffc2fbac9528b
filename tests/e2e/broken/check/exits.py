import sys

#! module-failed | sys.exit
sys.exit(3)
