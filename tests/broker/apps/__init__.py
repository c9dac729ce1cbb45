"""Small applications, one for each behaviour, that the broker tests run."""
