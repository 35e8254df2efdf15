"""Commands about data sets, before anything is trained."""
