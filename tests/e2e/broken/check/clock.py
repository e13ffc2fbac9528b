import datetime
from aiflow_sdk import pipeline

#! clock-at-build-time | p.vars
TODAY = datetime.date.today()
