"""What a model can find in the store: tastes behind stars, habits behind orders and payments."""
