"""What shows the library at work: the tour, the commands that print, the figures.

Read in this order: tour, tour_text, tour_attention, tour_learning, learning; display is how things are printed.
"""
