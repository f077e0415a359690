"""Make new files of the videos of lists: which, where to, and how each is encoded."""
