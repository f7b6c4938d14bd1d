"""The pages: what the tables say, for people with a browser; read-only, made on the server."""
