"""Published results, computed again on their data or on others like them."""
