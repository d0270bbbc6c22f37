"""The contract of a job store. Subclasses give the fixture `jobs`: a store, its clock, and what it has written."""

from services.orchestrator.tests.job_store_contract.dispatches import ClaimContract, DispatchContract, SubmitContract
from services.orchestrator.tests.job_store_contract.ends import EndContract, WaitingEndContract
from services.orchestrator.tests.job_store_contract.offers import OfferContract


class JobStoreContract(SubmitContract, DispatchContract, ClaimContract, OfferContract, EndContract, WaitingEndContract):
    """All of it."""
