"""The roof: reads the settings, builds the parts, runs them. Nothing imports it."""
