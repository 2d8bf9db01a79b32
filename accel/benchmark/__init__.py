"""What is measured and how: shared by ``accel bench`` and by bench/ in the source tree.

Here belong the cases (data of a stated shape), the contenders (accel and its peers, each as a
callable that ends when its result is there), their independent float64 check, the timer and the
facts about the machine. Tables, pages and plots belong to whoever shows the rows.
"""
