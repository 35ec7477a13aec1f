"""A run as a service: the HTTP API, the conversations it keeps, and the web page."""
