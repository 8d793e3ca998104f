"""What is there after training: counted, as a table and as a page."""
