"""The models and data sets that configs can name."""
