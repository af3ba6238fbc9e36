#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""hotel: a booking site in one process, with a list of hotels in memory.

GET /search?city=lisbon&max_price=120&limit=10   filters, ranks and prints hotels (CPU)
GET /profile?id=17                               one hotel with its reviews
GET or POST /reserve?id=17&nights=2              takes a room, 409 when none is left
GET /healthz

--hotels sets the length of the list that a search goes through, --memory-mib how much the process
keeps in memory at least.
"""

import argparse
import random
import sys

import function_server
from function_server import HttpError, whole_number

CITIES = ("amsterdam", "athens", "berlin", "lisbon", "london", "madrid", "oslo", "prague", "rome",
          "vienna")
WORDS = ("quiet", "clean", "noisy", "central", "friendly", "small", "bright", "cheap", "old",
         "lovely", "breakfast", "view", "station", "garden", "bed", "staff")
LIMIT_MAX = 100
PRICE_MAX = 400
NIGHTS_MAX = 30
REVIEWS = 20
ROOMS = 50
# Rooms come back after so many reservations: the site can be loaded for ever at constant memory.
RESERVATIONS_KEPT = 1000
PAGE_BYTES = 4096


class Hotels:
    """The list, and who reserved what."""

    def __init__(self, count):
        # The same list in every process and run.
        dice = random.Random(1)
        self.hotels = []
        self.reservations = []
        self.reserved = 0
        for number in range(count):
            self.hotels.append({
                "id": number,
                "name": f"{dice.choice(WORDS)} {dice.choice(CITIES)} {number}",
                "city": dice.choice(CITIES),
                "price": dice.randrange(40, PRICE_MAX),
                "rating": dice.randrange(10, 51) / 10,
                "rooms": ROOMS,
                "lat": dice.uniform(-1, 1),
                "lon": dice.uniform(-1, 1),
            })

    def find(self, query):
        """The hotel that the query names by its id; 404 when there is none."""
        if "id" not in query:
            raise HttpError(400, f"no id given; 0 to {len(self.hotels) - 1}")
        number = whole_number(query, "id", 0, 0, 10**9)
        if number >= len(self.hotels):
            raise HttpError(404, f"no hotel {number}; the last is {len(self.hotels) - 1}")
        return self.hotels[number]

    def search(self, query):
        """Rank those of a city (or all) below a price: near the centre, good and cheap first."""
        city = query.get("city")
        if city is not None and city not in CITIES:
            raise HttpError(400, f"no city {city!r}; one of {', '.join(CITIES)}")
        max_price = whole_number(query, "max_price", PRICE_MAX, 0, 10**6)
        limit = whole_number(query, "limit", 10, 1, LIMIT_MAX)
        ranked = []
        for hotel in self.hotels:
            if city in (None, hotel["city"]) and hotel["price"] <= max_price and hotel["rooms"]:
                distance = (hotel["lat"] ** 2 + hotel["lon"] ** 2) ** 0.5
                score = hotel["rating"] - distance - hotel["price"] / 100
                ranked.append((score, hotel["id"]))
        ranked.sort(reverse=True)
        return 200, {"found": len(ranked),
                     "hotels": [self.hotels[number] for _, number in ranked[:limit]]}

    def profile(self, query):
        """A hotel with its reviews, which are written anew each time (the same ones)."""
        hotel = self.find(query)
        dice = random.Random(hotel["id"])
        reviews = [{"stars": dice.randrange(1, 6),
                    "text": " ".join(dice.choice(WORDS) for _ in range(30))}
                   for _ in range(REVIEWS)]
        return 200, {**hotel, "reviews": reviews}

    def reserve(self, query):
        """Take a room; the oldest reservation ends when too many are kept."""
        hotel = self.find(query)
        nights = whole_number(query, "nights", 1, 1, NIGHTS_MAX)
        if not hotel["rooms"]:
            raise HttpError(409, f"hotel {hotel['id']} has no room left")
        hotel["rooms"] -= 1
        self.reserved += 1
        self.reservations.append(hotel)
        if len(self.reservations) > RESERVATIONS_KEPT:
            self.reservations.pop(0)["rooms"] += 1
        return 201, {"reservation": self.reserved, "hotel": hotel["id"], "nights": nights,
                     "price": nights * hotel["price"]}

    def handle(self, request, _cost):
        """One request's (status, value)."""
        routes = {"/search": (self.search, ("GET",)), "/profile": (self.profile, ("GET",)),
                  "/reserve": (self.reserve, ("GET", "POST"))}
        if request.path not in routes:
            raise HttpError(404, f"no {request.path} here; /search, /profile, /reserve, /healthz")
        route, methods = routes[request.path]
        if request.method not in methods:
            raise HttpError(405, f"{request.method} is not {' or '.join(methods)}")
        return route(request.query)


def touched_memory(mebibytes):
    """So many MiB that are really there: every page is written."""
    memory = bytearray(mebibytes << 20)
    for offset in range(0, len(memory), PAGE_BYTES):
        memory[offset] = 1
    return memory


def add_options(parser):
    """Options of this function alone."""
    def number(low, high):
        def parse(text):
            if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
                raise argparse.ArgumentTypeError(f"{text!r} is not from {low} to {high}")
            return int(text)
        return parse
    parser.add_argument("--hotels", type=number(1, 1_000_000), default=5000, metavar="N",
                        help="length of the list (default 5000; about 0.7 KiB each)")
    parser.add_argument("--memory-mib", type=number(0, 65536), default=0, metavar="M",
                        help="MiB to keep in memory besides (default 0)")


def main():
    """Listen where HOST and PORT say."""
    arguments = function_server.parse_arguments(
        "hotel.py", "HTTP function: hotel search, profiles and reservations", add_options)
    hotels = Hotels(arguments.hotels)
    ballast = touched_memory(arguments.memory_mib)
    status = function_server.serve("hotel.py", hotels.handle, arguments.host, arguments.port)
    del ballast
    return status


if __name__ == "__main__":
    sys.exit(main())
