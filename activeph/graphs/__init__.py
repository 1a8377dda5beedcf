"""From positions to graphs: neighbour lists of many configurations at once."""

from activeph.graphs.neighbours import Edges, NeighbourFinder, ReferenceNeighbours, direct_edges

__all__ = ["Edges", "NeighbourFinder", "ReferenceNeighbours", "direct_edges"]
