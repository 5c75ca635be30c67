"""Ways of hearing that something happened."""
