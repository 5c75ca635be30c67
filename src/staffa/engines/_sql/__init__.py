"""The one SQL engine behind every database."""
