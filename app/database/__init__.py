"""The ground: where the database is, how it is spoken to, the lock, the ledger and the catalog."""
