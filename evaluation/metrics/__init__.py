"""Quality metrics: each turns one clip into named values, or refuses it with a reason."""
