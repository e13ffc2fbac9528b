from aiflow_sdk import pipeline

#! module-failed | no_such_package
import no_such_package
