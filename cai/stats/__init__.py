"""Pure maths without a home of its own: intervals, ratings, agreement. No dependencies."""
