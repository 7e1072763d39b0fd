"""Requests and answers: deadlines, retries, and what each failure means."""
