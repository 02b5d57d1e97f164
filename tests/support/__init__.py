"""What the tests share: servers, databases, another driver, waiting."""
