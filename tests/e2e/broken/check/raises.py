from aiflow_sdk import pipeline

#! module-failed | ZeroDivisionError
1 / 0
