"""`rdeic serve`: one model behind an HTTP API and a web page.

    connection (connections.py: slow clients leave)
      -> guard.py (Host, Origin, token)
        -> api.py: a place (desk.py) -> the body (body.py) -> a turn -> jobs.py in a thread -> the answer
        -> page.py: the page, whose files are read once at the start

Whatever goes wrong is a problem (problems.py, RFC 9457).
"""
