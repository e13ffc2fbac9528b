"""Sources and sinks that ship with the SDK. Nobody imports them: their entry points name them."""
