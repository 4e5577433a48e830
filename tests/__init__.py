"""A package, so that no other package called ``tests`` hides it in processes that tests start."""
