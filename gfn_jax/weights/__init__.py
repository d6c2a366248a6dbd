"""Trained weights with their cards; the released ones lie here."""
