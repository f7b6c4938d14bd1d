"""The key index: a disposable cache of where keys are. It knows nothing about Delta."""
