"""Corrections: what a person decides about deliveries that are there already, carried out as batches."""
