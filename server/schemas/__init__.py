"""Wire models of requests, and the JSON of replies. Every accepted field has an effect."""
