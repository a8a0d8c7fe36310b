"""Migration Endpoint: one HTTP request upgrades a PostgreSQL database to what the deployment needs."""
