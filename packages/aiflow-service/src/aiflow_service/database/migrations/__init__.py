"""The migrations: one module a step in ``versions``, each with its way back."""
