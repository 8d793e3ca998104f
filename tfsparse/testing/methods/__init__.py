"""Batteries for methods: one file per folder of `tfsparse.methods`, used only if that folder is there."""
