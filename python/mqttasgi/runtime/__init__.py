"""The consumers' life inside the broker, on the loop thread."""
