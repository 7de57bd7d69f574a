"""What the user wrote, turned into checked values."""
