"""Tables of a foreign writer: Spark on the JVM. Runs in .venv-spark."""
