"""SavedModels and TFLite files in which zeros take few bytes."""
