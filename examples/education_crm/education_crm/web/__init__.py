"""The CRM's pages for people, and its API for the telecallers' phones."""
