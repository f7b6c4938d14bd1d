"""The key index: a disposable cache of where keys are. It knows nothing of Delta."""
