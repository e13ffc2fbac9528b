from aiflow_sdk import pipeline
#! module-failed | was never closed
def one(p:
