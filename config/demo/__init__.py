"""A creator one can look at: models computed here, people made up, everything else through the services."""
