"""Networks in use: predictions, features and measures of uncertainty for rows of the pool."""
