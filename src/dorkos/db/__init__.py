"""One database for all of DorkOS: schema, migrations, and the two doors `read` and `write`."""
