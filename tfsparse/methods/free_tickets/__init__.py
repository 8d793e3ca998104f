"""FreeTickets: an ensemble of sparse networks from one training."""

from tfsparse.methods.free_tickets.callback import FreeTickets
from tfsparse.methods.free_tickets.ensembles import EnsembleQuality, ensemble, evaluate_ensemble
from tfsparse.methods.free_tickets.rate import FreeTicketsRate

__all__ = ["EnsembleQuality", "FreeTickets", "FreeTicketsRate", "ensemble", "evaluate_ensemble"]
