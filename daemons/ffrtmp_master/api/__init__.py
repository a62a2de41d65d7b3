"""The HTTP API of the master: `server.Server` serves `routes.ROUTES` for a `backend.Backend`."""
