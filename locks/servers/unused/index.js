// Stands where azurite asks for a package that its tests never use.
