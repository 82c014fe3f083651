"""Small trainings that measure a claim."""
